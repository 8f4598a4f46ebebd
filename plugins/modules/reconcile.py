# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: reconcile
short_description: Bring a running PostgreSQL to what its mounted files say
description:
  - Brings certificate, settings, roles, passwords and extensions up to date.
  - A changed file is waited for and loaded without a restart. A setting that only a start can change restarts the
    server.
  - What was done is noted on the pod, so that preflight can tell whether there is anything to do. A new pod has no
    note.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.server
options:
  files:
    description: The path of each mounted file, with its SHA-256.
    type: dict
    required: true
  secrets:
    description: Folders, each with the Secret that is mounted there.
    type: dict
    required: true
  mark:
    description: A text that tells these files and Secrets from others. It is noted on the pod.
    type: str
    required: true
  scripts:
    description:
      - The paths of those files that the superuser runs.
      - They are SQL, or bash that finds the server by C(PGPORT).
    type: list
    elements: str
    required: true
  logins:
    description: Folders with the mounted files C(user) and C(password). The superuser's has no C(user).
    type: list
    elements: str
    required: true
  adopt:
    description:
      - Give the roles the mounted passwords, whatever they have now.
      - Without it, a role that is there must have the mounted password already.
    type: bool
    required: true
  extensions:
    description: The extensions that are meant to be there.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds that a restart may take.
    type: int
    required: true
"""

EXAMPLES = """
- name: Load a changed setting
  kubernetes_django.site.reconcile:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    pod: postgres-0
    port: 5432
    database: shop
    files: {/etc/postgresql/settings.conf: "{{ settings | hash('sha256') }}"}
    secrets: {}
    mark: "{{ settings | hash('sha256') }}"
    scripts: []
    logins: []
    adopt: false
    extensions: []
    timeout: 300
"""

RETURN = """
reloaded:
  description: Whether a changed file was loaded.
  returned: success
  type: bool
restarted:
  description: Whether the server was restarted.
  returned: success
  type: bool
settings:
  description: The settings that needed the restart.
  returned: success
  type: list
  elements: str
not_wanted:
  description: Extensions that are there and not in O(extensions). They are left alone.
  returned: success
  type: list
  elements: str
"""
