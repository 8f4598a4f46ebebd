"""An index, built while the site reads and writes; that cannot be done in a transaction."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Index created_at."""

    atomic = False
    dependencies = [("notes", "0003_fill_length")]
    operations = [AddIndexConcurrently("note", models.Index(fields=["created_at"], name="notes_created_at"))]
