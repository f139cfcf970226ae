-- One role and schema for each service that has a database; nobody has rights on another's.
-- For development: the passwords are in docker-compose.yml as well.
REVOKE ALL ON DATABASE candlefish FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

CREATE ROLE deploy LOGIN PASSWORD 'deploy';
GRANT CONNECT ON DATABASE candlefish TO deploy;
CREATE SCHEMA deploy AUTHORIZATION deploy;
ALTER ROLE deploy IN DATABASE candlefish SET search_path = deploy;

CREATE ROLE gateway LOGIN PASSWORD 'gateway';
GRANT CONNECT ON DATABASE candlefish TO gateway;
CREATE SCHEMA gateway AUTHORIZATION gateway;
ALTER ROLE gateway IN DATABASE candlefish SET search_path = gateway;
