"""URLs. /livez and /readyz are answered before these, by `status.probes`."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("status.urls")),
    path("", include("notes.urls")),
    path("admin/", admin.site.urls),
]
