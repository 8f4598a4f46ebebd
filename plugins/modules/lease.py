# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: lease
short_description: Take the lease of a site
description:
  - One run at a time has the lease of a site. The lease is renewed in the background while the run lives.
  - Fails where another run has it, and says which one.
  - The namespace has to be there.
  - With C(--check) nothing is taken.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
options:
  seconds:
    description: The seconds after which a lease that is not renewed counts as free.
    type: int
    required: true
"""

EXAMPLES = """
- name: Take the site
  kubernetes_django.site.lease:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    seconds: 30
"""

RETURN = """
ansible_facts:
  description: What was taken.
  returned: success
  type: dict
  contains:
    site_lease:
      description: The namespace of the lease, and its holder.
      type: dict
      returned: success
      contains:
        namespace:
          description: The namespace.
          type: str
          returned: success
        holder:
          description: This run, as the Lease names it.
          type: str
          returned: success
"""
