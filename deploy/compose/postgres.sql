-- The logins and the database that the service needs, for development. See docs/operations.md#install.
CREATE ROLE crm_owner LOGIN PASSWORD 'development-only' CREATEROLE;
CREATE ROLE crm LOGIN PASSWORD 'development-only';
CREATE ROLE crm_login LOGIN PASSWORD 'development-only';
CREATE DATABASE crm OWNER crm_owner;
