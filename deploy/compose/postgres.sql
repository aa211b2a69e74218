-- What the service needs of a server, for development: see docs/operations.md#install.
CREATE ROLE crm_owner LOGIN PASSWORD 'development-only' CREATEROLE;
CREATE ROLE crm LOGIN PASSWORD 'development-only';
CREATE DATABASE crm OWNER crm_owner;
