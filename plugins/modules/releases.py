# GNU General Public License v3.0+ (see LICENSE)

DOCUMENTATION = """
module: releases
short_description: List the releases of a site, or find one of them
description:
  - With O(find), fails where there is no such release, or where it is live already.
extends_documentation_fragment:
  - kubernetes_django.site.cluster
  - kubernetes_django.site.cluster.namespace
options:
  deployment:
    description: The Deployment of the site.
    type: str
    required: true
  find:
    description: Whether to find the release to roll back to.
    type: bool
    default: false
  wanted:
    description: The name of this release (the image's tag), its image or its revision. Empty for the one before.
    type: str
    default: ""
"""

EXAMPLES = """
- name: List the releases
  kubernetes_django.site.releases:
    kubeconfig: ~/.kube/config
    context: minikube
    namespace: shop
    deployment: kubernetes-django
  register: releases
"""

RETURN = """
lines:
  description: A table for people.
  returned: success
  type: list
  elements: str
live:
  description: The release that is live.
  returned: with O(find)
  type: dict
  contains: &release
    name:
      description: The name, which is the image's tag.
      type: str
      returned: success
    label:
      description: The name for people.
      type: str
      returned: success
    image:
      description: The image.
      type: str
      returned: success
    revision:
      description: The revision of the Deployment.
      type: int
      returned: success
target:
  description: The release that was found.
  returned: with O(find)
  type: dict
  contains: *release
"""
