# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: preflight
short_description: Find everything that is wrong before anything is touched
description:
  - Checks the variables of all roles, then the cluster. All findings are reported at once.
  - Takes the site's lease where its namespace is there, but not with C(--check).
extends_documentation_fragment:
  - kubernetes_django.site.cluster
options:
  roles:
    description: The roles whose variables are checked.
    type: list
    elements: str
    required: true
  roles_path:
    description: The folder of these roles.
    type: path
    required: true
  namespace_labels:
    description: The labels that the namespace is to have. Not needed with O(only_variables).
    type: dict
  prepared_annotation:
    description: The annotation of a volume whose directory was prepared. Not needed with O(only_variables).
    type: str
  backups:
    description: Whether this run works with backups. Then the backups' volume is checked.
    type: bool
    default: false
  only_variables:
    description: Check the variables alone. The cluster need not be there yet.
    type: bool
    default: false
"""

EXAMPLES = """
- name: Check the variables of the roles
  kubernetes_django.site.preflight:
    roles: [storage, postgres]
    roles_path: "{{ role_path | dirname }}"
    only_variables: true
"""

RETURN = """
ansible_facts:
  description:
    - What the roles need to know of the cluster.
    - FACTS in C(plugins/action/preflight.py) lists the names.
  returned: success
  type: dict
"""
