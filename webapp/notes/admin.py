"""Notes in Django's admin."""

from django.contrib import admin

from notes.models import Note


@admin.register(Note)
class NoteAdmin(admin.ModelAdmin):
    """A list and a form."""

    list_display = ["text", "length", "created_at"]
    readonly_fields = ["length", "created_at"]
