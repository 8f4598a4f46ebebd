# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: forget_migrations
short_description: Let the next deploy migrate again
description:
  - Deletes the Jobs of migrations, and what the releases say of them.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.site
options:
  job:
    description:
      - The one Job that the releases are to say nothing of. All Jobs stay then.
      - Without it, all are forgotten and deleted.
    type: str
"""

EXAMPLES = """
- name: Forget all migrations
  kubernetes_django.site.forget_migrations:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    site_name: shop
"""

RETURN = "{}"
