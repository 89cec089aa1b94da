"""The demo agents of ``guide`` and the pillars: what an agent on this platform looks like.

They are written on `city_client` alone and tell what the platform's operations tell them: no language model,
no state, no number that was not asked for just then.
"""
