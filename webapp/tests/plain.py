"""A Django project of somebody else's, served by gunicorn as it comes: it knows nothing of slow clients."""

from __future__ import annotations

import json

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    SECRET_KEY="plain",
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
)


def page(request: HttpRequest) -> HttpResponse:
    """Something small; a POST is refused, but not before all of it was read: CSRF's check looks into the form."""
    return HttpResponse("ok")


@csrf_exempt
def upload(request: HttpRequest) -> JsonResponse:
    """Tell the size of each file."""
    return JsonResponse({name: file.size for name, file in request.FILES.items()})


def headers(request: HttpRequest) -> HttpResponse:
    """Tell what arrived."""
    told = dict(request.headers) | {"scheme": request.scheme, "host": request.META.get("HTTP_HOST", "")}
    return HttpResponse(json.dumps(told), content_type="application/json")


def large(request: HttpRequest) -> HttpResponse:
    """4 MB."""
    return HttpResponse(b"x" * 4_000_000)


urlpatterns = [
    path("", page),
    path("livez", page),
    path("readyz", page),
    path("upload", upload),
    path("headers", headers),
    path("large", large),
    path("accounts/login/", page),
    path("admin/login/", page),
    path("metrics", page),
]
application = get_wsgi_application()
