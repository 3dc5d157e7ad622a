//! Flows decoded: who wrote each, what it is for, and names for the numbers in it.
