-- Finds the sites of a repository; GitHub's names differ in case alone for nobody.
CREATE INDEX IF NOT EXISTS site_by_repository ON site (lower(repository)) WHERE repository <> '';
