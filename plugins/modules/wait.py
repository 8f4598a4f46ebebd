# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: wait
short_description: Wait until workloads are ready, and say why they are not
description:
  - Says what it waits for. Of a Job that runs, it says what that wrote last.
  - A failure is explained as soon as the cluster knows of it, with states, events and the last log lines.
  - C(kubernetes.core.k8s) waits for some kinds only, takes a failed Job for one that still runs, and does not look at
    the pods. A mistyped image costs its whole timeout there.
  - With C(--check) there is nothing to wait for, and the task is skipped.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
options:
  namespace:
    description: The namespace of the workloads that name none.
    type: str
    required: true
  workloads:
    description: The workloads.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: The kind of the workload.
        type: str
        choices: [Deployment, Job, PersistentVolumeClaim, StatefulSet]
        required: true
      name:
        description: The name of the workload.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
      on_failure:
        description: A sentence for the end of the message when it fails.
        type: str
  timeout:
    description: Seconds until waiting itself counts as a failure. The time in which a node is made does not count.
    type: float
    default: 300
  node_patience:
    description: Seconds that an autoscaler may take to make a node.
    type: float
    required: true
  log_dir:
    description: The folder that keeps the report of a failure, on the machine that runs the playbook.
    type: path
    required: true
  log_lines:
    description: How many of a container's last log lines the report shows. The log of a Job is shown whole.
    type: int
    default: 30
"""

EXAMPLES = """
- name: Wait for the site
  kubernetes_django.site.wait:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    workloads:
      - {kind: Deployment, name: kubernetes-django}
    node_patience: 600
    log_dir: ~/reports
"""

RETURN = """
seconds:
  description: How long it waited.
  returned: success
  type: float
logs:
  description: The log of each workload that is a Job, else an empty string, in the order of O(workloads).
  returned: success
  type: list
  elements: str
"""
