# Quantile regression of the package quantreg on a natural cubic spline of age.
# Rscript tests/frozen/r/quantile_regression.R, in the root of the repository, writes
# quantile_subjects.csv (simulated) and quantile_curves.csv. tests/unit/test_study_r.py compares.
suppressMessages(library(quantreg))
library(splines)

folder <- "tests/frozen/r"
set.seed(24)
n <- 300
age <- sample(20:80, n, replace = TRUE)
area <- exp(7 - 0.006 * (age - 50) + (0.12 + 0.001 * (age - 50)) * rnorm(n))
subjects <- data.frame(age_years = age, area_mm2 = round(area, 4))
write.csv(subjects, file.path(folder, "quantile_subjects.csv"), row.names = FALSE, quote = FALSE)

inner <- quantile(unique(subjects$age_years), c(1 / 3, 2 / 3))
centiles <- c(3, 10, 25, 50, 75, 90, 97)
grid <- data.frame(age_years = c(20, 30, 40, 50, 60, 70, 80))
fit <- rq(log(area_mm2) ~ ns(age_years, knots = inner, Boundary.knots = range(subjects$age_years)),
          tau = centiles / 100, data = subjects)
curves <- data.frame(age_years = rep(grid$age_years, length(centiles)),
                     centile = rep(centiles, each = nrow(grid)),
                     log_area = as.vector(predict(fit, grid)))
write.csv(format(curves, digits = 12), file.path(folder, "quantile_curves.csv"),
          row.names = FALSE, quote = FALSE)
