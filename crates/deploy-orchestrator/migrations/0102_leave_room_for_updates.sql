-- A deployment's row is written some eight times in its life, mostly in columns that no index has. Where
-- its page has room the new version goes there, and none of the table's many indexes is touched (a "HOT"
-- update); in a full page each write touches all of them. Pages that are full already stay as they are.
ALTER TABLE deployment SET (fillfactor = 60);
ALTER TABLE lane SET (fillfactor = 50);
ALTER TABLE edge SET (fillfactor = 50);
ALTER TABLE edge_route SET (fillfactor = 70);
