"""The gateway: OpenAI's protocol in front, the engine behind, the live version in between."""
