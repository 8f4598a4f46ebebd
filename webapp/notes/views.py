"""Notes over HTTP: enough to prove that writes work and last."""

from __future__ import annotations

import json

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from notes.models import Note
from status.errors import explain


@csrf_exempt  # no cookie plays a part here
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def notes(request: HttpRequest) -> JsonResponse:
    """GET: the newest 50 and how many there are. POST `{"text": "…"}`: add one; 201 means that it is committed."""
    try:
        return _add(request) if request.method == "POST" else _list()
    except DatabaseError as error:
        reason = explain(error).summary if settings.STATUS_DETAILS else "The database does not take part at the moment."
        return JsonResponse({"error": reason}, status=503)


def _list() -> JsonResponse:
    newest = [{"id": note.id, "text": note.text, "created_at": note.created_at} for note in Note.objects.all()[:50]]
    return JsonResponse({"count": Note.objects.count(), "notes": newest})


def _add(request: HttpRequest) -> JsonResponse:
    if not settings.NOTES_WRITABLE:
        return JsonResponse({"error": "Notes are read-only here: DJANGO_NOTES_WRITABLE is not true."}, status=403)
    try:
        text = json.loads(request.body)["text"]
        valid = len(text.encode()) > 0 and len(text) <= 200 and "\0" not in text
    except (ValueError, KeyError, TypeError, AttributeError):  # not JSON, not an object, not text, half a character
        valid = False
    except RequestDataTooBig:
        return JsonResponse({"error": "That is too long."}, status=413)
    if not valid:
        return JsonResponse({"error": 'Send {"text": "…"} with 1 to 200 characters.'}, status=400)
    note = Note.objects.create(text=text, length=len(text))
    return JsonResponse({"id": note.id, "text": note.text}, status=201)
