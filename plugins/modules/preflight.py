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
    description: The roles whose variables are checked, and whose part of the site is looked at.
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
  description: What this run knows of the site. No role changes it.
  returned: success
  type: dict
  contains:
    site_lease:
      description: Where the lease is, and this run's name in it. There is none with C(--check), or without a namespace.
      type: dict
    site_state:
      description: The site as it was found, by part. Role namespace's part is there where it is in O(roles), and so on.
      type: dict
      contains:
        namespace:
          description:
            - exists; current, whether it has all labels that it is to have, or cannot get them; is_ours, whether it
              bears this site's name.
            - kinds, those of role namespace's objects that are there.
          type: dict
        nodes:
          description:
            - urls, where node ports may answer, without a port; minikube, the name of its profile, or empty.
            - is_here, whether a directory of the one node is a directory of this machine.
          type: dict
        identity:
          description: id, the site's UUID; a new one where there is none.
          type: dict
        secrets:
          description: Name of each Secret of the site, to its checksum.
          type: dict
        data:
          description:
            - volume, the one that has the data; suffix, what stands behind its names after an upgrade.
            - others, the volumes that upgrades left, each with its suffix, claim and volume; alone, what no other has;
              labelled, whether its label says that it has the data.
            - label and alone, the names of the label and of the annotation that say so on a claim.
          type: dict
          contains:
            volume:
              description:
                - prepared, whether its directory was made ready; released, whether it still names a claim that is gone.
                - current, whether its claim is bound and of the size that is asked for; grows, whether it has to grow.
                - namespace_left, whether the namespace of the Job that works on the directory is there.
              type: dict
        backups:
          description: volume, that of the backups, described as the data's. Only where backups are asked for.
          type: dict
        server:
          description: image of PostgreSQL's StatefulSet, empty for none; and its replicas.
          type: dict
        database:
          description:
            - Where it is asked (pod, name, port); is_new, whether there is no data yet; closed, whether an upgrade has
              closed it.
            - mark, what the pod was told last; certificate and certificate_is_good, of its TLS.
          type: dict
        rotation:
          description: Whether app, owner, admin and secret_key change; under_way, whether that has begun.
          type: dict
        upgrade:
          description: How far an upgrade of PostgreSQL is. Only where the playbook is there to upgrade.
          type: dict
        jobs:
          description: Names of the Jobs that are completed or failed, and of the CronJobs (scheduled).
          type: dict
        web:
          description:
            - exists, whether there is a release; release, its label, where the run works with backups.
            - leftovers, the objects that the options no longer ask for; replicas_to_keep, the pods that an autoscaler
              takes over, 0 for none; needs_certificate, whether the Ingress' one is to be made.
          type: dict
"""
