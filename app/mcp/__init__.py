"""The door for other people's AI clients: the Model Context Protocol, over the tools of app/admin/tools."""
