# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: certificate
short_description: Make the certificate of a server, and its CA
description:
  - Makes a CA where there is none, and a server's certificate where there is none that is good for long enough.
  - The Secret C(NAME-ca-key) has the CA with its key; no pod mounts it. The Secret C(NAME-tls) has the server's
    certificate and key.
  - No private key passes through a variable of Ansible.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.labels
options:
  name:
    description: The server. The names of its Secrets begin with it.
    type: str
    required: true
  title:
    description: What the CA is called.
    type: str
    default: PostgreSQL
  secret_type:
    description: The type of the Secret C(NAME-tls). A Secret of another type is made anew.
    type: str
    default: Opaque
  ca_secret:
    description: The Secret that gets the CA's certificate, for clients.
    type: str
    required: true
  service:
    description: The Service of the server. Empty where clients use none.
    type: str
    default: ""
  names:
    description: More DNS names by which clients know the server.
    type: list
    elements: str
    required: true
  days:
    description: How many days a new certificate is good.
    type: int
    required: true
  renew_days:
    description: A certificate with no more than these days left is made anew.
    type: int
    required: true
"""

EXAMPLES = """
- name: Make the certificate of the database
  kubernetes_django.site.certificate:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    labels: {app.kubernetes.io/part-of: shop}
    name: postgres
    ca_secret: postgres-ca
    service: postgres-service
    names: []
    days: 365
    renew_days: 30
"""

RETURN = """
made:
  description: What was made.
  returned: success
  type: list
  elements: str
  sample: [the CA, the CA's certificate for clients, the server's certificate]
checksum:
  description: SHA-256 of the server's certificate. Empty with C(--check).
  returned: success
  type: str
"""
