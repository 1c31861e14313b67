"""The hub's HTTP routes, one table for each subject. docs/spec/hub.md"""

from aitbc.hub.routes import about, account, admin, attest, jobs, openai, operator, quotes, receipts, seed003

ROUTES = [
    *about.ROUTES,
    *quotes.ROUTES,
    *jobs.ROUTES,
    *attest.ROUTES,
    *openai.ROUTES,
    *seed003.ROUTES,
    *receipts.ROUTES,
    *account.ROUTES,
    *admin.ROUTES,
    *operator.ROUTES,
]
