# The variance components of area and fat fraction in tests/frozen/r/cohort.csv, as an oracle for
# paravert.study.variance_components. Rscript tests/frozen/r/variance_components.R
# (Debian: r-base-core r-cran-lme4) writes variance_components.csv beside itself.
library(lme4)

here <- dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE)))
data <- read.csv(file.path(here, "cohort.csv"))
terms <- c(subject = "sd_subject", "subject:muscle" = "sd_muscle", "subject:side" = "sd_side", Residual = "sd_residual")

components <- function(outcome) {
  known <- data[!is.na(data[[outcome]]), ]
  known <- known[known$subject %in% names(which(table(known$subject) == 8)), ] # all muscles and sides
  people <- known[!duplicated(known$subject), ]
  known$decades <- (known$age_years - mean(people$age_years)) / 10
  known$relative <- known[[outcome]] / ave(known[[outcome]], known$muscle)
  fit <- lmer(
    relative ~ 0 + muscle + muscle:sex + muscle:decades + muscle:side +
      (1 | subject) + (1 | subject:muscle) + (1 | subject:side),
    known,
    control = lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))
  )
  found <- as.data.frame(VarCorr(fit))
  data.frame(outcome = outcome, term = terms[found$grp], estimate = found$sdcor)
}

result <- rbind(components("csa_mean_mm2"), components("fat_fraction"))
write.csv(result, file.path(here, "variance_components.csv"), row.names = FALSE)
