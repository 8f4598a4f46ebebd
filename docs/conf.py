"""How Sphinx makes the docs a site; scripts/build-docs calls it."""

project = "kubernetes-django"
html_title = project
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
extensions = ["myst_parser", "sphinx_antsibull_ext"]
# A heading's name in a link is the one that GitHub gives it.
myst_heading_anchors = 3
nitpicky = True
# antsibull-docs links to these in Ansible's own documentation, which is not asked: the build needs no network.
nitpick_ignore_regex = [
    ("std:ref", "action_plugins|callback_plugins|ansible_configuration_settings|common_return_values"),
    ("std:envvar", "ANSIBLE_.*"),
]
