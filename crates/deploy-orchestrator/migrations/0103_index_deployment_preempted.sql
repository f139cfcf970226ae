-- Finds what a rollback preempted, whose undo it inherits. Old code does not need it.
CREATE INDEX IF NOT EXISTS deployment_preempted ON deployment (superseded_by) WHERE cause = 'preempted';
