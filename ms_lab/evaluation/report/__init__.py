"""From verdicts to numbers, intervals, goals and pages."""
