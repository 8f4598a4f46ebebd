# GNU General Public License v3.0+ (see LICENSE)
"""What the documentation of plugins has in common that talk to a cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of the connection, and of the place in the cluster."""

    DOCUMENTATION = """
author: [The kubernetes-django contributors (!UNKNOWN)]
options:
  kubeconfig:
    description:
      - The kubeconfig file, or several with colons between them.
      - By default the value of the variable C(site_kubeconfig), which the role C(site) sets.
    type: str
  context:
    description:
      - The context in it.
      - By default the value of the variable C(site_context), which the role C(site) sets.
    type: str
"""

    NAMESPACE = """
options:
  namespace:
    description: The namespace.
    type: str
    required: true
"""

    LABELS = """
options:
  labels:
    description: The labels of all objects that are made.
    type: dict
    required: true
"""

    SITE = """
options:
  site_name:
    description: The site. All its objects bear the label C(app.kubernetes.io/part-of) with this name.
    type: str
    required: true
"""

    SERVER = """
options:
  pod:
    description: The pod of the PostgreSQL server.
    type: str
    required: true
  port:
    description: The port that the server listens on.
    type: int
    required: true
  database:
    description: The database.
    type: str
    required: true
"""
