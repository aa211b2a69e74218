"""What the service's mails say."""
