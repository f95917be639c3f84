"""The rescue of records that a server lost: processes that still have them append them again."""
