# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: roll_back
short_description: Give Deployments the pod template of a former release
description:
  - Migrations are not reversed.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
options:
  deployments:
    description: The Deployments. The first one is the site's, the others run beside it.
    type: list
    elements: str
    required: true
  revision:
    description:
      - The revision of the first Deployment to go to. The others go to their newest release with the same image.
      - Without it, each goes to the release that still serves while the newest does not become ready.
    type: int
  cause:
    description:
      - Why the newest release failed.
      - With it, the task waits for the pods, and then fails with the cause and what was put back.
    type: str
  timeout:
    description: Seconds to wait for the pods. Needed with O(cause).
    type: int
"""

EXAMPLES = """
- name: Go back to revision 3
  kubernetes_django.site.roll_back:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    deployments: [kubernetes-django]
    revision: 3
  register: rolled_back
"""

RETURN = """
workloads:
  description: What to wait for, as O(kubernetes_django.site.wait#module:workloads) takes it.
  returned: always, but not with C(--check)
  type: list
  elements: dict
msg:
  description: What became of each Deployment.
  returned: always
  type: str
"""
