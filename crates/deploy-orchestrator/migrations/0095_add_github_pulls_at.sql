-- When the pull requests of a repository were looked at first and last, in seconds of GitHub's clock; null before.
ALTER TABLE github_repository ADD COLUMN IF NOT EXISTS pulls_since bigint;
ALTER TABLE github_repository ADD COLUMN IF NOT EXISTS pulls_at bigint;
