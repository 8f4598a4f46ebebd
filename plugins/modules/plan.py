# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: plan
short_description: Say what applying templates would change
description:
  - Renders templates of a role, and asks the API server by a dry run whether applying them would change anything.
  - Nothing is applied. C(kubernetes.core.k8s) applies RV(definitions) where RV(differs) has an entry.
  - What was changed by hand differs as well. What was added by hand differs except with C(--check).
extends_documentation_fragment:
  - kubernetes_django.site.cluster
options:
  templates:
    description: Files of the role's C(templates/).
    type: list
    elements: str
    required: true
  workloads:
    description: The workloads that have to be ready.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: The kind of the workload.
        type: str
        required: true
      name:
        description: The name of the workload.
        type: str
        required: true
  namespace:
    description: The namespace of these workloads.
    type: str
    required: true
  again:
    description: Whether a Job that has ended is to run once more. One that runs is left alone.
    type: bool
    required: true
"""

EXAMPLES = """
- name: Compare the Deployment
  kubernetes_django.site.plan:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    templates: [django.deployment.yaml.j2]
    workloads: [{kind: Deployment, name: kubernetes-django}]
    again: false
  register: plan
"""

RETURN = """
definitions:
  description: The objects, to be given to C(kubernetes.core.k8s).
  returned: success
  type: list
  elements: dict
differs:
  description: Each object that is missing or that a server-side apply would change, as C(Kind/name).
  returned: success
  type: list
  elements: str
diff:
  description: The differences, with C(--diff).
  returned: success
  type: list
  elements: dict
stale:
  description:
    - The name and namespace of each Job among them that has to be deleted first.
    - It failed, or never ran, or has ended and is to run once more.
  returned: success
  type: list
  elements: dict
not_ready:
  description: Those of O(workloads) that are not ready as they stand.
  returned: success
  type: list
  elements: dict
"""
