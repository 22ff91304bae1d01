//! SKELETON: the driver.
