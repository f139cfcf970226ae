-- A trigger that the sweep made of a branch's head, because no delivery told of it: `pushed_at` is then when GitHub said
-- where the branch is, by GitHub's clock. Old code takes it for one of a delivery.
ALTER TABLE trigger ADD COLUMN IF NOT EXISTS swept boolean NOT NULL DEFAULT false;
