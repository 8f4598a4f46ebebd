"""Columns that an older release need not know: the database has their defaults."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """Add created_at and length."""

    dependencies = [("notes", "0001_initial")]
    operations = [
        migrations.AddField("note", "created_at", models.DateTimeField(db_default=Now())),
        migrations.AddField("note", "length", models.PositiveSmallIntegerField(db_default=0)),
    ]
