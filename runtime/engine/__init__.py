"""From a prompt to pieces of text: requests, chat templates and the generation loop."""
