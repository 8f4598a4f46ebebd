# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: remove
short_description: Delete objects and wait until they are gone
description:
  - Deletes objects by kind, and by name or labels. What they own is gone as well when this ends.
  - All objects go at the same time. C(kubernetes.core.k8s) would wait for one kind before it begins with the next.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
options:
  kinds:
    description: The kinds, in the order in which they are deleted.
    type: list
    elements: str
    required: true
  namespace:
    description: The namespace of those kinds that have one.
    type: str
  name:
    description: The one object of each kind. Without it, all that bear O(labels).
    type: str
  labels:
    description: What the objects have to bear. Needed without O(name).
    type: dict
  timeout:
    description: Seconds until waiting for them counts as a failure.
    type: float
    required: true
"""

EXAMPLES = """
- name: Delete the workloads of a site
  kubernetes_django.site.remove:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    kinds: [Deployment, StatefulSet, Job]
    labels: {app.kubernetes.io/part-of: shop}
    timeout: 300
"""

RETURN = """
removed:
  description: What was deleted, as C(Kind/name).
  returned: success, but not with C(--check)
  type: list
  elements: str
"""
