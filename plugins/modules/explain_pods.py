# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: explain_pods
short_description: Print and keep what is known of a site's pods
description:
  - Prints states, events and the last log lines of each pod, and keeps them in a file.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.site
options:
  log_dir:
    description: The folder that keeps the report, on the machine that runs the playbook.
    type: path
    required: true
  log_lines:
    description: How many of a container's last log lines the report shows.
    type: int
    required: true
"""

EXAMPLES = """
- name: Report on the pods
  kubernetes_django.site.explain_pods:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    site_name: shop
    log_dir: ~/reports
    log_lines: 30
"""

RETURN = "{}"
