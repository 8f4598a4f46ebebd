"""Data: the length of notes that were there before the column."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models.functions import Length


def fill(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set `length` where it is still the default. Can run again."""
    note = apps.get_model("notes", "Note")
    note.objects.filter(length=0).update(length=Length("text"))


class Migration(migrations.Migration):
    """Fill length."""

    dependencies = [("notes", "0002_note_created_at")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop, elidable=True)]
