-- Finds the tokens of some sites, newest first, by the first of their sites: who is limited to some
-- sites lists the tokens that reach no further, among however many. Old code does not need it.
CREATE INDEX IF NOT EXISTS token_of_site ON token ((sites[1]), id);
