"""`tribi sandbox`: a stand-in for ConnectedYou that comes with Tribi, for building a storefront without an account.

It speaks the draft contract (contracts/connected_you.draft.openapi.yaml) and shares no code with the provider that speaks to it,
so that a mistake in one isn't repeated by the other. The hostile stand-in, which breaks HTTP itself, is the tests' own.
"""
