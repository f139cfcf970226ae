-- A trigger may have closed a preview. Old code reads the new word as one that it does not know.
ALTER TABLE trigger
    DROP CONSTRAINT IF EXISTS trigger_outcome_check,
    ADD CONSTRAINT trigger_outcome_check
        CHECK (outcome IN ('created', 'superseded', 'ignored', 'closed')) NOT VALID;
