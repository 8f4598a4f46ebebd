# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: database_status
short_description: Ask the database in the cluster how it is
description:
  - Never fails. A database that does not answer is one of the lines.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.server
options:
  questions:
    description: SQL that answers with a line each.
    type: str
    required: true
  certificate_secret:
    description: The Secret with the server's certificate, or an empty string.
    type: str
    required: true
"""

EXAMPLES = """
- name: Ask for the size of the database
  kubernetes_django.site.database_status:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    pod: postgres-0
    port: 5432
    database: shop
    questions: SELECT pg_size_pretty(pg_database_size(current_database()))
    certificate_secret: postgres-tls
"""

RETURN = """
lines:
  description: The answers, and for how many days the certificate is good.
  returned: always
  type: list
  elements: str
"""
