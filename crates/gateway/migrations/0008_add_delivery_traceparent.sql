-- The trace context of the call that brought a delivery, so that the deployment it makes leads there. Old code writes
-- none, and reads none.
ALTER TABLE delivery ADD COLUMN IF NOT EXISTS traceparent text NOT NULL DEFAULT '';
