"""Agreement by most work: anyone authors (`pow`), or listed miners in turns (`poa-pow`). docs/spec/nakamoto.md"""
