# Intraclass correlations with 95 % intervals of the package psych.
# Rscript tests/frozen/r/icc.R, in the root of the repository, writes ratings.csv (simulated) and icc.csv.
suppressMessages(library(psych))

folder <- "tests/frozen/r"
set.seed(7)
truth <- rnorm(22, 600, 90)
ratings <- data.frame(first = round(truth + rnorm(22, 0, 25), 3), second = round(truth + rnorm(22, 15, 25), 3))
write.csv(ratings, file.path(folder, "ratings.csv"), row.names = FALSE, quote = FALSE)

found <- ICC(ratings, lmer = FALSE)$results
found <- found[found$type %in% c("ICC2", "ICC3"), c("type", "ICC", "lower bound", "upper bound")]
names(found) <- c("type", "icc", "low", "high")
write.csv(format(found, digits = 12), file.path(folder, "icc.csv"), row.names = FALSE, quote = FALSE)
