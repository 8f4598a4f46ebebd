# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: smoke_test
short_description: Ask a site for a page
description:
  - Asks through the API server, and by the ways that the site's users come, as far as they lead from here.
  - Fails when the site gives a wrong answer, or none within O(timeout).
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
options:
  service:
    description: The Service of the site. Its port is called C(http).
    type: str
    required: true
  path:
    description: The path of the page.
    type: str
    required: true
  status:
    description: The HTTP statuses that count as an answer.
    type: list
    elements: int
    required: true
  timeout:
    description: Seconds, for each way, until anything else counts as a failure.
    type: float
    required: true
  host:
    description: The Host header that the site accepts.
    type: str
    required: true
  behind_tls:
    description: Whether the site expects a proxy in front of it that speaks TLS.
    type: bool
    required: true
  given:
    description:
      - The URL at which the user says that the site is, or an empty string.
      - A wrong answer there is a failure. The exception is an answer that only a proxy in front of the site gives, such
        as 401 or 502, while the site itself is well.
    type: str
    required: true
  origins:
    description:
      - The URLs of the site's Ingress.
      - What is between them and the site may need time, so a wrong answer there is a warning.
    type: list
    elements: str
    required: true
  ca_secret:
    description: The Secret with the CA of the Ingress' certificate, or an empty string.
    type: str
    required: true
  nodes:
    description:
      - The URLs of the node port. They are asked where there is neither O(given) nor O(origins).
      - They need not lead anywhere from here.
    type: list
    elements: str
    required: true
  hint:
    description: The command that opens the site from anywhere.
    type: str
    required: true
"""

EXAMPLES = """
- name: Ask the site for its start page
  kubernetes_django.site.smoke_test:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    service: django-service
    path: /
    status: [200, 301, 302]
    timeout: 20
    host: shop.example.org
    behind_tls: true
    given: https://shop.example.org
    origins: []
    ca_secret: ""
    nodes: []
    hint: minikube service django-service
"""

RETURN = """
url:
  description: Where the site is for its users. Empty where only the command of O(hint) opens it.
  returned: success
  type: str
told:
  description: The same as a sentence.
  returned: success
  type: str
"""
