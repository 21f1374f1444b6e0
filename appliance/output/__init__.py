"""Files of events: JSON Lines and Parquet, rotated and removed by age and size."""
