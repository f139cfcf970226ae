-- The one clock of this schema. Expiries are judged by it alone; a test database replaces the
-- function by one with an offset. First migration: there is no old code to see it.
CREATE OR REPLACE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';
