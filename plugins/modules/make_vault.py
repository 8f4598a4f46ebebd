# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: make_vault
short_description: Make the vault of a site
description:
  - Writes random values, encrypted with the password of this run. A vault that is there is left alone.
  - Refuses where a site or its data is there that another vault belongs to.
  - The values go through no other process, and the password source of the run is the one that encrypts.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
  - kubernetes_django.site.cluster.site
options:
  path:
    description: The file of the vault.
    type: path
    required: true
  header:
    description: The comment at its top.
    type: str
    required: true
  values:
    description: The variables of the vault.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The variable.
        type: str
        required: true
      length:
        description: How many random characters it gets; 0 for no value.
        type: int
        required: true
      secret:
        description: The Secret that has its value in the cluster.
        type: str
        required: true
      key:
        description: The key in this Secret. Of C(.dockerconfigjson), the value is the list of its logins.
        type: str
        required: true
  recover:
    description:
      - Empty makes a vault only where there is no site and no data that another vault belongs to.
      - V(true) writes one from the site's Secrets. The vault that is there is kept under another name.
      - V(reset) makes one with new values even where a site is.
    type: str
    required: true
  claim:
    description: The claim of the site's data.
    type: str
    required: true
  volume:
    description: The volume of the site's data.
    type: str
    required: true
  directory:
    description: The folder of the site's data, if it is on this machine. Else an empty string.
    type: str
    required: true
"""

EXAMPLES = """
- name: Make a vault
  kubernetes_django.site.make_vault:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    site_name: shop
    path: group_vars/all/vault.yml
    header: The passwords of the site
    values:
      - {name: vault_postgres_app_password, length: 32, secret: postgres-app, key: password}
    recover: ""
    claim: postgres-pvc
    volume: postgres-pv
    directory: ""
"""

RETURN = """
msg:
  description: Where the vault was kept that was there before. Else empty.
  returned: changed
  type: str
"""
