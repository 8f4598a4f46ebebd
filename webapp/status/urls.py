"""URLs of the status page."""

from django.urls import path

from status import views

urlpatterns = [
    path("", views.page, name="status"),
    path("api/status", views.api, name="status-json"),
    path("metrics", views.metrics_page, name="metrics"),
]
