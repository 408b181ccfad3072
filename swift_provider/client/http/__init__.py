"""How bytes move between this process and Swift: the only part that imports treq."""
