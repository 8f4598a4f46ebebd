# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: rotation
short_description: Let a site log in by a stand-in while its password is changed
description:
  - No login fails meanwhile.
  - Each step can be done again. A run that was stopped at any moment is finished by the next one.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.labels
  - kubernetes_django.site.cluster.server
options:
  state:
    description: V(begin) before the Secrets change, V(end) when every workload has the new ones.
    type: str
    choices: [begin, end]
    required: true
  pod:
    description: The pod of the PostgreSQL server. Empty where the server is elsewhere.
    type: str
    required: true
  user:
    description: The app's role in the database.
    type: str
    required: true
  secret:
    description: The Secret with its login.
    type: str
    required: true
  stand_in:
    description: The Secret with the stand-in's login. While it is there, a rotation is under way.
    type: str
    required: true
  app:
    description: Whether the app's password changes. The stand-in is a member of the app's role and acts as it.
    type: bool
    required: true
  new_key:
    description: The new C(SECRET_KEY), where it changes. Else an empty string.
    type: str
    required: true
  settings_secret:
    description: The Secret with the current C(SECRET_KEY).
    type: str
    required: true
  fallbacks_secret:
    description: The Secret with the keys that are accepted beside it.
    type: str
    required: true
  timeout:
    description: Seconds that the whole step may take.
    type: float
    required: true
"""

EXAMPLES = """
- name: Let the stand-in log in
  kubernetes_django.site.rotation:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    labels: {app.kubernetes.io/part-of: shop}
    state: begin
    pod: postgres-0
    port: 5432
    database: shop
    user: shop
    secret: postgres-app
    stand_in: postgres-rotation
    app: true
    new_key: ""
    settings_secret: django-settings
    fallbacks_secret: django-fallbacks
    timeout: 300
  no_log: true
"""

RETURN = "{}"
