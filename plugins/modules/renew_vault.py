# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: renew_vault
short_description: Give variables of a vault new random values
description:
  - The other lines of the vault stay as they are, comments as well.
  - The new file takes the old one's place in one step, encrypted with the password of this run.
author: [The kubernetes-django contributors (!UNKNOWN)]
options:
  path:
    description: The file of the vault. It has to be encrypted as a whole.
    type: path
    required: true
  values:
    description: The name of each variable, with the number of random characters that it gets.
    type: dict
    required: true
"""

EXAMPLES = """
- name: Give the app's login a new password
  kubernetes_django.site.renew_vault:
    path: group_vars/all/vault.yml
    values: {vault_postgres_app_password: 32}
"""

RETURN = "{}"
