"""Files that people open elsewhere: tables as CSV and XLSX. Without a word of CRM."""
